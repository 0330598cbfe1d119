"""alss_ray: sweeps of adaptive latent space sampling (ALSS; Mo et al. 2020).

Importing the package imports neither torch nor Ray, so that the analysis scripts stay light.
"""

__version__ = "0.1.0"
