"""The datasets, one file each. `kerasfer.data.loading` registers them by name."""
