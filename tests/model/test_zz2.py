from collections import Counter
from tests.model import machine
from tests.model.model import Model
from tests.model.test_mutants import *
for n in list(globals()):
    if n.startswith("test_"): del globals()[n]
def test_machine(bench, monkeypatch):
    real=machine.read_back
    c=Counter()
    async def rb(*a):
        s=await real(*a); 
        for k,v in list(s.state.negotiations.items()):
            if v=="": del s.state.negotiations[k]
        return s
    monkeypatch.setattr(machine,"read_back",rb)
    d=Model.decide
    def dec(self, commands, now):
        n=len(self.notifications)
        ans=d(self,commands,now)
        c['batches']+=1
        for cmd,a in zip(commands,ans):
            k=type(cmd).__name__
            if k=="Reserve": k+=cmd.type
            code=getattr(a,'code',None) or getattr(a,'status',None) or getattr(a,'new_status',None) or 'ok'
            if getattr(a,'reservation_id','x') is None: code=a.errors[0].code
            c[f'{k}:{code}']+=1
        for x in self.notifications[n:]: c[x.type]+=1
        live=sum(1 for r in self.state.reservations.values() if r.live(now) and r.type=="SOFT" and any(l.sku=="A" and l.held for l in r.lines))
        c[f'live soft A {live}']+=1
        return ans
    monkeypatch.setattr(Model,"decide",dec)
    run_state_machine_as_test(Machine, settings=settings(max_examples=150, stateful_step_count=30, suppress_health_check=list(HealthCheck),deadline=None, database=None, print_blob=False, phases=[Phase.generate]))
    for k,v in sorted(c.items()): print(v,k)
