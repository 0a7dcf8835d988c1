"""What tests are made of: models of the machinery around vdcos. Not part of the image."""
