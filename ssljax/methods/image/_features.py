"""What evaluation may read of an encoder."""

import jax.numpy as jnp


def read(outputs) -> dict:
  """The arrays that `eval.feature` may name, of outputs of an encoder, in float32.

  'features'; 'cls' if there is a class token; and of a ViT 'block_1', ..., the mean of the patches
  after each block: the last blocks of what predicts pixels are more of a decoder than of an
  encoder, and its features are best before them (Chen et al. 2020, Generative pretraining from
  pixels, figure 2).
  """
  found = {name: outputs[name] for name in ('features', 'cls') if name in outputs}
  for i, tokens in enumerate(outputs.get('layers', ()), 1):
    found[f'block_{i}'] = tokens[:, -outputs['tokens'].shape[1] :].mean(1)
  return {name: x.astype(jnp.float32) for name, x in found.items()}
