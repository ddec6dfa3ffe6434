import pathlib

from setuptools import find_packages, setup

EXTRAS = {
  'tfds': ['tensorflow-datasets>=4.9.7', 'array-record>=0.5', 'importlib-resources'],
  'tensorboard': ['tensorboardX>=2.6.4'],
  'notebooks': ['ipykernel', 'nbclient', 'nbformat'],
}

# pytest 9.2 keeps names of tests where pytest-xdist 3.8 does not change them: groups of tests that
# share compiled programs would be scattered over the workers without a word.
TEST = ['pytest>=8,<9.2', 'pytest-xdist>=3.5', 'ruff>=0.8', 'networkx>=3']

# To compare with other libraries' networks; not part of [test], for its size.
PARITY = ['torch>=2.6', 'transformers>=5.23']

setup(
  name='ssljax',
  version='0.1.0',
  description='Self-supervised learning in JAX: pure losses, one trainer, every modality',
  long_description=pathlib.Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=find_packages(include=['ssljax', 'ssljax.*']),
  python_requires='>=3.11',
  install_requires=[
    'absl-py>=2.1',
    'chex>=0.1.90',
    'flax>=0.12',
    'grain>=0.2.12',
    'jax>=0.10',
    'matplotlib>=3.9',
    'ml-collections>=1.0',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.11.30',
    'Pillow>=10.3',
    'rich>=13.7',
    'safetensors>=0.5',
    'scikit-learn>=1.5',
    'scipy>=1.13',
  ],
  extras_require=EXTRAS | {'parity': PARITY} | {'test': [*TEST, *sum(EXTRAS.values(), [])]},
  classifiers=[
    'License :: OSI Approved :: Apache Software License',
    'Programming Language :: Python :: 3',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
