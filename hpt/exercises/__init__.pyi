from .bets import Bets as Bets
from .checking import check as check
from .checking import hint as hint
from .game import Game as Game
from .tasks import TASKS as TASKS
