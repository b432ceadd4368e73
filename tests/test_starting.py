import subprocess
import sys

# What the commands other than `clean` import before they do anything.
MODULES = "curator.cli.main, curator.publish.hub, curator.publish.diff, curator.publish.apply, curator.publish.relabel"
MODULES += ", curator.review.imports, curator.review.page, curator.review.server"


def test_torch_is_loaded_by_training_alone():
    """It takes longer than all that they do."""
    code = f"import sys, {MODULES}\nprint(sorted({{'torch', 'torchvision', 'accelerate', 'timm'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
