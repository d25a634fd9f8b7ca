"""Job scripts: printing and submitting them with changes, and reporting what jobs used.

Other rooms use only the names in ``__all__``; the command is ``command.main``.
"""

from hpc_deepfake.jobs.accounting import account, measured
from hpc_deepfake.jobs.accounting.usage import Usage
from hpc_deepfake.jobs.command import main, scheduler_here, submit_job
from hpc_deepfake.jobs.cost import Cost
from hpc_deepfake.jobs.cost import of as cost_of
from hpc_deepfake.jobs.queue.elements import active_elements
from hpc_deepfake.jobs.script import DIALECTS, ranks_per_node, requested, sized
from hpc_deepfake.jobs.script.request import Portable, Request
from hpc_deepfake.jobs.script.values import read_time
from hpc_deepfake.jobs.site import CLONE, chosen, for_site, sited
from hpc_deepfake.jobs.submission import submit

__all__ = ["CLONE", "DIALECTS", "Cost", "Portable", "Request", "Usage", "account",
           "active_elements", "chosen", "cost_of", "for_site", "main", "measured",
           "ranks_per_node", "read_time", "requested", "scheduler_here", "sited", "sized", "submit",
           "submit_job"]
