// Makes sliders of the sprites of guide/latent_explorer.html. Without it the page shows them whole.
//
// A figure has the class latent-explorer and says in data-* how many tiles it has, how large they are, and what the
// sliders are to say: of a plane its extent, of a walk the seeds it passes. docs/latent_explorer.py writes it.
"use strict";

const SHOWN = 224; // pixels of the side of the large picture
const SECONDS_PER_LEG = 3; // of a walk that plays

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A sprite, one tile of which is shown large; picture() says what can be seen to those who do not see it.
function largeTile(image, columns, rows) {
  const tile = element("div", { class: "latent-tile", role: "img" });
  tile.style.backgroundImage = `url("${image.src}")`;
  tile.style.backgroundSize = `${columns * SHOWN}px ${rows * SHOWN}px`;
  const show = (column, row, description) => {
    tile.style.backgroundPosition = `${-column * SHOWN}px ${-row * SHOWN}px`;
    tile.setAttribute("aria-label", description);
  };
  return { tile, show };
}

function slider(label, most, value) {
  const input = element("input", { type: "range", min: 0, max: most, step: 1 });
  input.value = value;
  return { input, row: element("label", { class: "latent-slider" }, element("span", {}, label), input) };
}

const written = (number) => number.toFixed(2).replace("-", "\u2212");

// A plane: a slider for each latent, and the whole sprite as a map to point at.
function plane(figure, image, columns, rows, numbers) {
  const extent = numbers[0];
  const { tile, show } = largeTile(image, columns, rows);
  const across = slider("first latent", columns - 1, (columns - 1) / 2);
  const upwards = slider("second latent", rows - 1, (rows - 1) / 2);
  const said = element("output", { class: "latent-said" });
  const marker = element("div", { class: "latent-marker", "aria-hidden": "true" });
  const map = element("div", { class: "latent-map" });

  const latent = (step, steps) => (2 * step / (steps - 1) - 1) * extent;
  const update = () => {
    const column = Number(across.input.value);
    const row = rows - 1 - Number(upwards.input.value);
    const first = written(latent(column, columns));
    const second = written(latent(rows - 1 - row, rows));
    show(column, row, `what the decoder makes of ${first} and ${second}`);
    across.input.setAttribute("aria-valuetext", first);
    upwards.input.setAttribute("aria-valuetext", second);
    said.textContent = `z = (${first}, ${second})`;
    marker.style.width = `${100 / columns}%`;
    marker.style.height = `${100 / rows}%`;
    marker.style.left = `${100 * column / columns}%`;
    marker.style.top = `${100 * row / rows}%`;
  };
  const point = (event) => {
    const box = map.getBoundingClientRect();
    const place = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    across.input.value = place((event.clientX - box.left) / box.width, columns);
    upwards.input.value = rows - 1 - place((event.clientY - box.top) / box.height, rows);
    update();
  };
  map.addEventListener("pointerdown", point);
  map.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") point(event); // a finger that moves scrolls the page
  });
  for (const { input } of [across, upwards]) input.addEventListener("input", update);

  image.replaceWith(map);
  map.append(image, marker);
  figure.prepend(element("div", { class: "latent-controls" }, tile, across.row, upwards.row, said));
  update();
}

// A walk: one slider over all frames, and a button that plays it.
function walk(figure, image, columns, rows, seeds) {
  const { tile, show } = largeTile(image, columns, rows);
  const along = slider("way", columns * rows - 1, 0);
  const said = element("output", { class: "latent-said" });
  const button = element("button", { type: "button", class: "latent-button" }, "Play");
  let timer = null;

  const update = () => {
    const frame = Number(along.input.value);
    const column = frame % columns;
    const row = Math.floor(frame / columns);
    const share = Math.round(100 * column / columns);
    const next = seeds[(row + 1) % rows];
    const place = column ? `${share} % of the way from seed ${seeds[row]} to seed ${next}` : `seed ${seeds[row]}`;
    show(column, row, `generated picture: ${place}`);
    along.input.setAttribute("aria-valuetext", place);
    said.textContent = place;
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
    said.removeAttribute("aria-live");
  };
  along.input.addEventListener("input", () => {
    stop();
    update();
  });
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "Pause";
    said.setAttribute("aria-live", "off"); // or a reader would be told four times a second
    timer = setInterval(() => {
      along.input.value = (Number(along.input.value) + 1) % (columns * rows);
      update();
    }, 1000 * SECONDS_PER_LEG / columns);
  });

  figure.prepend(element("div", { class: "latent-controls" }, tile, along.row, said, button));
  update();
}

for (const figure of document.querySelectorAll("figure.latent-explorer")) {
  const { kind, columns, rows, numbers } = figure.dataset;
  const image = figure.querySelector("img");
  const make = { plane, walk }[kind];
  make(figure, image, Number(columns), Number(rows), numbers.split(" ").map(Number));
  figure.classList.add("latent-active");
}
