"""Package metadata. Everything a tool needs to be told stands in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "ngrokd/__init__.py").read_text())
assert VERSION is not None, "ngrokd/__init__.py names no __version__"


class BuildWithInit(build_py):
    """Takes init/ into the package, where `ngrokd install` finds it; a checkout has it beside."""

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            self.copy_tree(str(HERE / "init"), str(Path(self.build_lib) / "ngrokd" / "init"))

setup(
    name="ngrokd",
    version=VERSION.group(1),
    description="Reach ngrok's Kubernetes-bound endpoints from a plain Linux or macOS host",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.9",
    # find_packages only: naming `ngrokd` in py_modules would install the launcher over the package.
    packages=find_packages(include=["ngrokd", "ngrokd.*"]),
    # Said, though it goes without saying: an editable install is then one line with this folder,
    # where setuptools would else load a finder into every Python that starts.
    package_dir={"": "."},
    package_data={"ngrokd": ["py.typed"]},
    cmdclass={"build_py": BuildWithInit},
    install_requires=[
        "pyyaml>=6",  # the configuration file, with line numbers for its faults
        "cryptography>=41",  # the private key and its certificate signing request
        "python-daemon>=3",  # double fork, descriptors and umask of the background daemon
        "lockfile>=0.12",  # the pid file that python-daemon holds
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.7",
            "hypothesis>=6.100",
            "mypy>=1.10",
            "ruff>=0.5",
            "types-PyYAML",
            "build",
        ],
    },
    entry_points={
        "console_scripts": [
            "ngrokd=ngrokd.__main__:main",
            "ngrokctl=ngrokd.control.ctl:main",
        ],
    },
)
