"""The trellis of 2 x1 + x2 + x3 = 4 with values 0 to 2: paths that reach k are the points."""

import matplotlib.pyplot as plt

coefficients, largest, k = (2, 1, 1), 2, 4
reached = [{0}]
for coefficient in coefficients:
    reached.append(
        {
            s + coefficient * x
            for s in reached[-1]
            for x in range(largest + 1)
            if s + coefficient * x <= k
        }
    )
alive = [set() for _ in reached]
alive[-1] = {k}
for stage in range(len(coefficients) - 1, -1, -1):
    steps = [coefficients[stage] * x for x in range(largest + 1)]
    alive[stage] = {
        s for s in reached[stage] if any(s + step in alive[stage + 1] for step in steps)
    }
for stage, coefficient in enumerate(coefficients):
    for s in reached[stage]:
        for x in range(largest + 1):
            target = s + coefficient * x
            if target <= k:
                lives = s in alive[stage] and target in alive[stage + 1]
                colour = "#d95f02" if lives else "#80889055"
                plt.plot([stage, stage + 1], [s, target], color=colour, lw=1.6 if lives else 0.8)
for stage, states in enumerate(reached):
    for s in states:
        plt.plot(stage, s, "o", color="#d95f02" if s in alive[stage] else "#c0c4c8")
plt.xticks(range(4), ["start", "after $x_1$", "after $x_2$", "after $x_3$"])
plt.ylabel("sum so far")
plt.yticks(range(k + 1))
