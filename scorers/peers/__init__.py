"""How other routers choose a replica, as scorers of this one. One file each."""
