"""What looks at pictures, and what prepares them."""
