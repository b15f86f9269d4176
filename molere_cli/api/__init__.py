"""What `import molere_cli as molere` offers beside the plugin author's names: the commands as functions."""

import warnings

# In a notebook without ipywidgets a library that timm imports complains, though no bar of it is ever shown.
warnings.filterwarnings("ignore", message="IProgress not found")
