"""Two nodes with data and a witness, which only votes: any one of the three may die, and after its
return any other."""
import os

import scenario
from scenario import Canary, Load, compare_copies


def main(run):
    with run.cluster(found_flags=("--weights", "n3=0")) as c:
        c.start()
        led = {n["name"]: n["partitions_led"] for n in c.status()["nodes"]}
        run.check(led["n3"] == 0 and led["n1"] + led["n2"] == 1024, f"the witness leads nothing: {led}")
        final = os.path.join(c.dir, "final")
        with Canary(c.dir) as canary, \
                Load(run, c, "--operations", "10000", "--rate", "2000", "--until-stop",
                     "--timeout", "10000", "--final", final) as load:
            for index in (2, 0, 1, 2, 1, 0):
                load.kill_under(c.nodes[index])
                c.wait_serving()
            figures = load.finish(tell_slow=True)
        run.check(figures["still_not_done"] == 0 and
                  figures["still_ms_max"] < canary.allowed_ms(1000),
                  f"no read of a key that nobody changes took a second ({canary})")
        compare_copies(run, c, final)


scenario.run(main, __doc__)
