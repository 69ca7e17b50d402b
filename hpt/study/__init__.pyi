from .cost import duration as duration
from .profiles import load_profile as load_profile
from .profiles import profile_names as profile_names
from .study import Study as Study
