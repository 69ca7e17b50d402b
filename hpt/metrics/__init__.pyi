from .quantities import QUANTITIES as QUANTITIES
from .quantities import estimate_text as estimate_text
from .quantities import group_name as group_name
from .report import TransferReport as TransferReport
from .sensitivity import lr_sensitivity as lr_sensitivity
from .transfer import basins as basins
from .transfer import transfer_report as transfer_report
from .verdicts import Group as Group
