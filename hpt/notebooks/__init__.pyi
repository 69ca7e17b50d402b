from .claims import best_runs as best_runs
from .claims import price_of_mistake as price_of_mistake
from .exercises import check_function as check_function
from .exercises import check_prediction as check_prediction
from .expectations import outcomes as outcomes
from .main_job import replicate as replicate
from .replication import write_replication as write_replication
from .runner import run_notebooks as run_notebooks
