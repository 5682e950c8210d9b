"""Other upscalers beside vidsr."""
