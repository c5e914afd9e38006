"""Train, validate, test or use a discrete VAE described by a YAML file: `dvae`, in a checkout.

python train.py fit  --config configs/mnist_categorical.yaml
python train.py test --config runs/mnist_categorical/version_0/config.yaml \
                     --ckpt_path runs/mnist_categorical/version_0/checkpoints/best.ckpt
python train.py predict --config runs/mnist_categorical/version_0/config.yaml \
                     --ckpt_path runs/mnist_categorical/version_0/checkpoints/best.ckpt
python train.py fit --help
"""

import sys

from dvae.cli import main

if __name__ == "__main__":
    sys.exit(main())
