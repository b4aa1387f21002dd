from tests.model import machine
from tests.model.test_mutants import *
for n in list(globals()):
    if n.startswith("test_"): del globals()[n]
def test_machine(bench, monkeypatch):
    real=machine.read_back
    async def rb(*a):
        s=await real(*a); 
        for k,v in list(s.state.negotiations.items()):
            if v=="": del s.state.negotiations[k]
        return s
    monkeypatch.setattr(machine,"read_back",rb)
    run_state_machine_as_test(Machine, settings=settings(max_examples=1500, stateful_step_count=30, suppress_health_check=list(HealthCheck),deadline=None, database=None, print_blob=False, phases=[Phase.generate]))
