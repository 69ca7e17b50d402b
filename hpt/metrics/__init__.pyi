from .report import Group as Group
from .report import TransferReport as TransferReport
from .report import cell as cell
from .report import group_name as group_name
from .transfer import basins as basins
from .transfer import transfer_report as transfer_report
