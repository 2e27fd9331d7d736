"""The image VAEs of ``experiments.vae`` trained by Pyro, on the digits of scikit-learn."""
