"""3D Gaussian splatting for dfw: geometry `gaussians`, renderer `splatting`. Importing this root imports no torch."""
