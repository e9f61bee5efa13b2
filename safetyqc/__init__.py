"""safetyqc: quality control of safety SFT data with judges that were measured against labels."""

__version__ = "0.1.0"
