# %% [markdown]
# # Networks: what flows where
#
# A water network has 119 links, and twelve of them a meter. After this story you can put the
# balances of a network into a law, sparse, and noisy readings as well: the posterior of all flows
# follows without sampling.

# %%
import zlib
from base64 import b85decode

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
from matplotlib.collections import LineCollection
from scipy import sparse

from numpyro_constrained import ConstrainedNormal

numpyro.enable_x64()

# %% [markdown]
# ## A water network
#
# Net3, the example of EPANET, at ten o'clock (`tutorials/water.py` packed it). What flows into a
# junction flows out or is consumed: 92 junctions are 92 rows, and A is sparse.

# %%
PACKED = """
c-l=?OSUX22%NhLH&7l05!nC6Is(ntcVcA-$}hmu?x%(JvztYCZQHwKGwI^(M31($$7*}^nEdu^>+~aSX}4&yYmIKF$?3M5YTw
Z``nIOlO`1A&a2BVqe_%xVNv^)zw(hfxOFN5el&zEfcyptE%zh@_!EI-Dvt~()X1p2efrp3t@N+xA_hKkqldH}5t<VXswz^8Ki
#rIKYkc2c-&hZC<0@T|flYlxp^(n5Sr#WFr4^jjcBEGAvKh5jbSv7~wMwnd)n~1%FKZ5|w{V`yI=klVVl82QHa|UEAY)XF$_w|
fWQSDwg^KVp*hVgxKyP}OKee|aTd0p!eCidGF+SDG4Lo%kqwm64W4GBI$<oJ%tV->23eGJ<A_i)iyYGwVh|?0LF8u9*vLp(QBB
2Q3!yT8RDrL(D>X@CPdGM11=715#G}z~D080vs4MSc!$amG}I6*3|{psf-K_6Z^Kt=#M3cO`x5g1q|kBx~$qa>%Wtl`jy_gea9
10)Rl{Q21&Yu5#SH*#oOC~sb<$pb*2d?7teCKYJljIe^pBAB3#c%{jL@NKM-n;IgOu;20lMhiK0H^gb8u+4b+7c!>gIYQW$VwE
CcLI}^ZPl#`S5FLx|eegHOMrU{K6l{`|-OvXZu5j!Nb(j+CO$`j8;n`F-vjfVA=jIVCn86@`DfKavY13QQJ<ch(D+znbz$gL&W
h*P0L&#sy`QkIsdO(;h_k^;LKx|DrVBxAEr1?J#PKB$!CLP!u3SZ#h1%`y(GU*y@3ADDn`)6(7ORon@26{7+8da7+ei~?bUfEE
$8cKUVBIHPAPwh*^pXf+VzwQ6<gu*AUKH~7YwE(fE*GRh_CW#Fh#v!$@7~bz&og09y?{<}8HSG{%1$<aNPW8BrGw=>z>f5`{N7
OK~TU<rHcgb%(QC;Owup69Lxej4nUYNuAl@~L>*@gDH&?rYH?I!Cb69^-L8<Ng8Gd>)5BhV*{8hITAkAqLaxfT@s5{}k${oQL|
Was+i3te^iyd3=_KYaK8Vsy~$8sdg;4APo2$@BnVY!?=EJ-#sz2~Qb^r<ZKP4g~c1a)kkiv%dasIp;(7WwI>!bxbA)1i;h&E#6
JM|H=6RxV<!l@-4tia5-}kx*4T_rCqwW#Nd45D*rGWT8Z)AQXMG=gFbZUc0I*~mH7wsOFwi!{S4w7lw&8yUdVHM54<2iaU1>@)
h_riVSh2?k21yrVQ9u{7d3hd6t7)Sl1TP&_(w8O6dVlyNG9+wKFa=--G>IPb|j%d2#m+|1`rsT^J^dUKORMlk2wD(5c~%L^AU>
k2A9VTAAG_qhR%HR<i2V+`xoN2zYvf5{QKygC!YTS^4O(k
"""
lines = zlib.decompress(b85decode(PACKED.replace("\n", ""))).decode().split("\n")
place = np.array([line.split() for line in lines[:97]], float)
begin, end, width, flow = np.array([line.split() for line in lines[97:]], float).T
start, stop, link = begin.astype(int), end.astype(int), np.arange(119)
into = sparse.coo_array((np.ones(119), (stop, link)), shape=(97, 119))
out_of = sparse.coo_array((np.ones(119), (start, link)), shape=(97, 119))
balance = sparse.csr_array(into - out_of)[:92]  # the last five are tanks and reservoirs
demand = balance @ flow

# %% [markdown]
# ## A noisy meter is an exact law
#
# 12 links have a meter with an error of 5 L/s. Let the errors be variables too: reading = flow +
# error, exactly. Then one law holds balances and meters; its mean and variance are the posterior,
# without sampling, and `constraint_log_prob` is the evidence for what we do not know, here the
# typical velocity.

# %%
rng = np.random.default_rng(0)
meters, noise = rng.permutation(119)[:12], 5.0
reading = flow[meters] + noise * rng.normal(size=12)
seen = sparse.eye_array(119).tocsr()[meters]
A = sparse.block_array([[balance, None], [seen, sparse.eye_array(12)]], format="csr")
k = jnp.array(np.concatenate([demand, reading]))
area = np.pi / 4 * (width / 1000) ** 2 * 1000  # L/s at 1 m/s


def network(velocity):
    scale = np.concatenate([velocity * area, np.full(12, noise)])
    return ConstrainedNormal(0.0, jnp.array(scale), A, k)


evidence = {v: network(v).constraint_log_prob() for v in np.geomspace(0.1, 3, 20)}
law = network(velocity := max(evidence, key=evidence.get))
mean, stddev = (np.asarray(each)[:119] for each in (law.mean, law.variance**0.5))
off, unmetered = abs(mean - flow), np.setdiff1d(link, meters)
print(
    f"{velocity:.2f} m/s; flows off by {off[unmetered].mean():.0f} L/s where there is no meter; ",
    end="",
)
print(f"{(stddev < 1e-6).sum()} flows follow from demands alone")

# %% [markdown]
# A penalty instead lets balances be missed as a meter is, by 5 L/s: and they are missed. The map is
# what the law does not know: of two wide links side by side (top) the sum is known, not the parts.

# %%
rows = sparse.vstack([balance, seen]) / noise
system = rows.T @ rows + sparse.diags_array((velocity * area) ** -2.0)
soft = np.linalg.solve(system.toarray(), rows.T @ np.concatenate([demand, reading]) / noise)
missed = {
    name: abs(balance @ x - demand).max() for name, x in {"law": mean, "penalty": soft}.items()
}
print("largest miss of a balance, L/s:", {name: f"{each:.1g}" for name, each in missed.items()})
assert missed["law"] < 1e-6 and missed["penalty"] > 1

figure, axis = plt.subplots(figsize=(6, 4.5), layout="constrained")
lines = LineCollection(
    np.stack([place[start], place[stop]], 1), array=stddev, norm=plt.Normalize(0, 30), lw=3
)
axis.add_collection(lines)
axis.plot(*(place[start] + place[stop])[meters].T / 2, "r^", label="meter")
axis.set(xticks=[], yticks=[], title="standard deviation of each flow, L/s", aspect="equal")
axis.autoscale()
axis.legend()
figure.colorbar(lines, extend="max")
plt.show()

# %% [markdown]
# ## What to try next
#
# - A meter more: where does it help most? `law.variance` for each candidate tells without readings.
# - A leak: a junction whose demand is not known is a row less.
# - Sampled noise and velocity: `numpyro.factor` or `pyro.factor` of the evidence, and NUTS.
# - What a penalty costs NUTS, and other ways: `experiments/reconciliation`.
