"""Installs packages of npm for a test."""

import subprocess

import pytest

NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


def run_npm(folder, *arguments):
    """Runs npm in a folder. Skips the test if npm cannot reach its registry."""
    command = ["npm", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if any(sign in done.stderr for sign in NO_NETWORK):
        pytest.skip("npm cannot reach its registry.")
    assert done.returncode == 0, done.stderr
