"""Export turns an optimised scene into files: mesh, texture, turntable and picture grids."""
