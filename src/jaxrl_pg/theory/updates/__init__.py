"""Updates of a whole policy at once: the analytical rule and its neighbours."""
