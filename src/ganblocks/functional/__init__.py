"""The formulas, in plain PyTorch: any device, any order of gradient. Everything faster is compared with these."""

from ganblocks.functional.adaptive_norm import adaptive_instance_norm
from ganblocks.functional.augment import color, cutout, diff_augment, translation
from ganblocks.functional.bias_act import bias_act
from ganblocks.functional.bias_act_pixel_norm import bias_act_pixel_norm
from ganblocks.functional.color import match_color, with_luminance
from ganblocks.functional.corruption import gaussian_noise, masking_noise, salt_and_pepper
from ganblocks.functional.draws import PartGenerator, draw
from ganblocks.functional.edges import neighbor_differences, sobel
from ganblocks.functional.fade import fade_in
from ganblocks.functional.gram import gram_matrix
from ganblocks.functional.image_range import from_uint8, intensities, rescale, to_uint8
from ganblocks.functional.latent import lerp, normal_latents, reparameterize, slerp, truncated_normal_latents
from ganblocks.functional.minibatch_std import minibatch_std
from ganblocks.functional.pixel_norm import pixel_norm
from ganblocks.functional.resample import blur, downsample_box, upsample_nearest
from ganblocks.functional.tiles import in_tiles, tile_starts
from ganblocks.functional.upfirdn2d import upfirdn2d
from ganblocks.functional.weight_scale import weight_scale

__all__ = [
    "PartGenerator",
    "adaptive_instance_norm",
    "bias_act",
    "bias_act_pixel_norm",
    "blur",
    "color",
    "cutout",
    "diff_augment",
    "downsample_box",
    "draw",
    "fade_in",
    "from_uint8",
    "gaussian_noise",
    "gram_matrix",
    "in_tiles",
    "intensities",
    "lerp",
    "masking_noise",
    "match_color",
    "minibatch_std",
    "neighbor_differences",
    "normal_latents",
    "pixel_norm",
    "reparameterize",
    "rescale",
    "salt_and_pepper",
    "slerp",
    "sobel",
    "tile_starts",
    "to_uint8",
    "translation",
    "truncated_normal_latents",
    "upfirdn2d",
    "upsample_nearest",
    "weight_scale",
    "with_luminance",
]
