"""What providers do to the world, and third parties' providers found."""
