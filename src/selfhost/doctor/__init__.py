"""What is wrong with a box: facts are gathered at the edge, and every check is a pure function of them."""
