"""What other libraries can take from here, in their own terms; importing this imports none of them."""
