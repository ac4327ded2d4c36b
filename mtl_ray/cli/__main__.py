"""Run the command line as `python -m mtl_ray.cli`."""

from mtl_ray.cli.main import main

if __name__ == "__main__":
    main()
