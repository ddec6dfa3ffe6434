"""MRM, the image part: MAE whose decoder paints the image at twice the size the encoder sees.

    x = a crop of 448 pixels, latent = encoder(the kept patches of x shrunk to 224)
    pred = decoder(latent and mask tokens, put back in place), patches of 32 pixels
    loss = mean over hidden patches of (pred - normalised patch of x)^2, see losses.mae

Zhou et al. 2023, "Advancing radiograph representation learning with masked record modeling". The
record is a radiograph and its report: the other half of the paper, masked words of the report
predicted from the other words and the mean of the image's tokens (the two losses are added), needs
text and is not here. Follows the authors' PyTorch code, `model_mrm.py` and `run.sh`; theirs shrinks
without antialiasing, and begins with the weights that MAE learned on ImageNet, for which there is
`init_from`. Views are grey, as radiographs are.
"""

from ml_collections import ConfigDict, config_dict

from ssljax.augment import image
from ssljax.methods.image import mae

PAPER = 'Zhou et al. 2023, Advancing radiograph representation learning with masked record modeling'
FAMILY = 'masked-modelling'


def get_config(preset='imagenet'):
  """'imagenet': the authors' `run.sh`, for radiographs; 'cifar' and 'tiny' are ours."""
  views = dict(num_views=1, scale=(0.2, 1.0), grayscale_prob=1.0)
  vit = dict(positions='sincos', class_token=True, pool='mean')
  adamw = dict(name='adamw', b2=0.95, weight_decay=0.05, batch_scaling='linear')
  method = dict(
    patch_size=config_dict.placeholder(int),
    mask_ratio=0.75,
    norm_pix=True,
    upscale=2,  # side of the images that are painted, as a multiple of those that are seen
  )
  return ConfigDict(
    {
      'imagenet': dict(
        encoder=dict(name='vit_base', patch_size=16, **vit),
        batch_size=256,
        epochs=200,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=40 / 200, **adamw),
        method=method
        | dict(decoder=dict(dim=768, depth=4, heads=6), views=image.get_config(224, **views)),
      ),
      'cifar': dict(
        encoder=dict(name='vit_tiny', patch_size=2, **vit),
        batch_size=1024,
        epochs=800,
        optim=dict(learning_rate=1.5e-4, warmup_fraction=0.05, **adamw),
        method=method
        | dict(decoder=dict(dim=96, depth=4, heads=3), views=image.get_config(16, **views)),
      ),
      'tiny': dict(
        encoder=dict(name='vit_micro', patch_size=2, **vit),
        batch_size=256,
        epochs=40,
        optim=dict(learning_rate=2e-3, warmup_fraction=0.1, **adamw),
        method=method
        | dict(
          decoder=dict(dim=48, depth=2, heads=3),
          views=image.get_config(16, interpolation='bilinear', **views),
        ),
      ),
    }[preset]
  )


def make(config, nets):
  return mae.make(config, nets, upscale=config.upscale)
