"""First program come, first served."""

from flow.orders.program_fcfs import ProgramFcfs
from sim.policies.policy import Policy, in_order

POLICY = Policy("program-fcfs", "the program that came first goes first", make_flow=in_order(ProgramFcfs))
