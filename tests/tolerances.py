"""All tolerances of the test-suite in one table, each with its reason. Another one is another row here."""

import torch

# (rtol, atol) for comparing a result in that dtype with a float64 oracle.
BY_DTYPE: dict[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-10, 1e-12),  # a few hundred roundings of 1e-16
    torch.float32: (2e-5, 2e-6),  # sums of up to a few thousand products
    torch.float16: (2e-3, 2e-3),  # one rounding of 2**-11, values of order 1
    torch.bfloat16: (1.6e-2, 1.6e-2),  # one rounding of 2**-8, values of order 1
}

# Named tolerances: name -> (rtol, atol).
NAMED: dict[str, tuple[float, float]] = {
    "exact": (0.0, 0.0),
    "initial spread": (0.15, 0.0),  # of pixels drawn through 256 random output filters
    "two routes in float32": (1e-3, 1e-5),  # equal maths in another order of sums, after Adam's normalised steps
    "twenty_steps_float32": (0.0, 1e-5),  # losses over the largest, after as many normalised steps of Adam
    "twenty_steps_float64": (0.0, 1e-10),  # the same
    "twenty_steps_bfloat16": (0.0, 1e-2),  # against float32, weights in float32; 4e-5 to 3e-3 over three seeds
    "twenty_steps_coarse_bfloat16": (0.0, 0.15),  # 8e-3 to 7e-2 over three seeds
    "bfloat16 direction": (0.0, 0.03),  # cosine to float32 above 0.97: seven layers of roundings of 2**-8
    "a step of 1e-9": (0.0, 1e-7),  # a change of 1e-9 in alpha, images of order 1
    "penalty_float32": (1e-3, 1e-6),  # a penalty with autocast switched off, against float64
    "penalty_low_precision": (1e-2, 1e-3),  # a penalty whose critic ran in bfloat16 or float16, against float64
    "finite_difference": (1e-6, 1e-8),  # central differences of step 1e-6 in float64: 1e-10 of rounding, 1e-12 of cut
    "random_moments": (0.0, 0.05),  # mean and standard deviation of some 4,000 draws, three standard errors
    "float64_eps": (1e-7, 0.0),  # float64 against an identity that an eps of 1e-8 beside values of order 1 disturbs
    "sample_moment": (0.02, 0.0),  # a second moment of normal draws; standard error measured at 0.004 to 0.006
    "sample_mean": (0.0, 0.02),  # a mean of 36,864 or more standard normal draws: 3.8 standard errors
    "half_rounding": (2.0**-10, 0.0),  # one rounding to float16, relative; no absolute part, for values near 1e-4
    "slerp_length": (0.0, 1e-6),  # lengths along the arc, from sines and cosines
    "acos": (0.0, 1e-7),  # the oracle's arc cosine loses half of float64's digits near 0 and pi
    "nearly_straight": (0.0, 1e-9),  # at an angle pi - d the arc amplifies float64's rounding by 1/d, d >= 1e-6
    "std_of_20000": (2e-2, 0.0),  # a standard deviation from 20,000 samples: 4 standard errors of 1/sqrt(2 n)
    "swd_scale": (1e-2, 0.0),  # 0.5 sqrt(2 / pi) from 30,000 samples and 16 directions; found within 0.04 %
    "swd_invariance": (0.0, 1e-4),  # 0, from float32 pyramids of images with another contrast
    "sharded": (1e-12, 1e-12),  # the same float64 sums, in another order
    "swd_same_patch": (0.0, 1e-9),  # correlation of a float64 patch with its standardised copy
    "conv_bfloat16_cosine": (0.0, 0.03),  # distance of a cosine to 1; three chained bfloat16 kernels give 1e-4 to 1e-3
    "conv_bfloat16": (4e-2, 0.0),  # norm of the error over the norm: a handful of roundings of 2**-8
    "conv_float16": (5e-3, 0.0),  # the same with roundings of 2**-11
    "conv_orders_float32": (2e-4, 2e-5),  # three orders of gradients in a chain, each times a few roundings of float32
    "resample_extreme": (1e-10, 1e-12),  # float64 rounding, after scaling by 1e300 and back
    "one_level": (0.0, 1.0),  # 8-bit levels, where a conversion between colour spaces may round either way
    "fast_jpeg": (0.0, 2.0),  # 8-bit levels of a smooth JPEG: one rounding at the smaller size, one at the result's
    "drawn_area": (5e-3, 2e-3),  # area, centre or distance of an antialiased figure, in half pictures of 256 pixels
    "frechet_2048": (1e-9, 0.0),  # 2048 ones, from a sum of 2048 eigenvalues
    "frechet_closed_form": (1e-12, 0.0),  # float64 against the formula for covariances that commute, or 2 x 2
    "frechet_singular": (0.0, 1e-5),  # roots of eigenvalues that are rounding of zeros
    "frechet_self": (0.0, 1e-9),  # 0, from traces of 10 to 100 that cancel
    "frechet_few_rows": (8e-2, 0.0),  # an estimate of random-matrix theory, within 3 %, and a mean over 6 or more
    "frechet_few_dimensions": (0.12, 0.0),  # the same with 1 to 5 dimensions, where the theory is coarse
    "frechet_many_rows": (2e-2, 0.0),  # an estimate against the first order in D / n, at D / n = 1 / 80
    "frechet_bias": (5e-2, 0.0),  # a mean over 20 draws of 32 dimensions, or 200 of 6
    "torchmetrics": (1e-5, 0.0),  # torchmetrics takes kernel distance and inception score in float32
    "torch_fidelity": (1e-9, 0.0),  # float64 on both sides, sums in other orders
    "resize_levels": (0.0, 4e-3),  # of 0 to 255: places in float32 against Pillow's float64
    "inception_float32": (1e-4, 1e-4),  # one network of a hundred layers written twice, float32, features of order 1
    "four decimals": (0.0, 5e-5),  # a published number of four decimals
    "ms_ssim_borders": (2e-2, 0.0),  # torchmetrics takes the coarsest scale over mirrored borders, ours leaves them out
    "float32_exponents": (2e-8, 0.0),  # torchmetrics holds the five weights in float32
    "ms_ssim_spread": (5e-2, 0.0),  # a standard deviation from 4,000 pairs: 4 standard errors of 1/sqrt(2 n)
    "rank_ties": (5e-2, 0.0),  # ties among the copies shrink the variance of a rank statistic by their share cubed
    "steps_float32": (1e-3, 0.0),  # squared differences over steps of 1e-4, each end rounded to float32: 6e-4 a pixel
    "three_digits": (0.0, 5e-4),  # a published proportion with three digits
    "mse_bf16": (1e-2, 0.0),  # a mean of squares of probabilities rounded to bfloat16
    "sampled sigma": (1e-3, 0.0),  # power iteration on drawn matrices; two close singular values take long to part
    "rough sigma": (5e-2, 0.0),  # fifteen steps of power iteration, from a random vector
    "ulp_float32": (2.0**-21, 2.0**-147),  # 4 units in the last place
    "ulp_float16": (2.0**-10, 2.0**-24),  # 1
    "ulp_bfloat16": (2.0**-6, 2.0**-132),  # 2: Triton's interpreter cuts where a GPU rounds
    "fused_gradient_float32": (0.0, 5e-6),  # of the largest: a few roundings, sums over 60 pixels
    "fused_gradient_float16": (0.0, 5e-3),  # of the largest: the saved result, rounded, in products that cancel
    "fused_gradient_bfloat16": (0.0, 4e-2),  # the same
    "sum_of_thousands": (1e-4, 1e-4),  # float32, sums of up to 3,000 terms of order 1 in another order
    "fourth_order": (1e-8, 1e-8),  # float64 through four gradients, each times ten
    "replicas_float64": (1e-10, 1e-12),  # the same sums in another order, five steps of Adam
    "replicas_float32": (1e-4, 2e-5),  # the same in float32
    "transformed": (1e-9, 1e-10),  # float64 through two gradients
    "onnx_float32": (1e-4, 1e-5),  # ONNX Runtime's convolutions and norms over few pixels, both sides in float32
    "interval_width": (0.1, 0.0),  # of a bootstrap: 4,000 resamples know the ends to 4 %
}


def for_dtype(dtype: torch.dtype) -> dict[str, float]:
    """Keyword arguments for ``torch.testing.assert_close`` and ``pytest.approx``-like calls."""
    rtol, atol = BY_DTYPE[dtype]
    return {"rtol": rtol, "atol": atol}


def named(name: str) -> dict[str, float]:
    """The tolerance called ``name`` as keyword arguments."""
    rtol, atol = NAMED[name]
    return {"rtol": rtol, "atol": atol}
