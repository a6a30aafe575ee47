"""Reader for the golden vectors; numpy only, no official code needed.

    import golden
    c  = golden.case("dual.weights")          # manifest entry
    x  = golden.inputs(c)                     # {name: array} built from the rules
    r  = golden.check(c, {"ones": my_img})    # list of (name, ok, max_abs_diff, allowed); f64=True uses the sharp float64 references
    golden.expected(c, "ones")                # stored array
Weights:  fill.param(tag, key, shape, family)  for every state-dict key (None = keep constructor value).
"""

import json
from pathlib import Path

import numpy as np
from reference import fill

ROOT = Path(__file__).parent
_man = json.loads((ROOT / "manifest.json").read_text("utf-8"))
_by = {c["id"]: c for c in _man["cases"]}
_npz = {}


def ids():
    return list(_by)


def case(cid):
    return _by[cid]


def _file(c):
    f = ROOT / c["file"]
    if f not in _npz:
        _npz[f] = np.load(f)
    return _npz[f]


def make_input(d):
    r = d["rule"]
    if r == "unit":
        return fill.unit(d["seed"], d["shape"], d["scale"], d["offset"])
    if r == "uniform":
        return fill.uniform(d["seed"], d["shape"], d["lo"], d["hi"])
    if r == "image":
        return fill.image(d["seed"], d["batch"], d["size"], d["channels"], d["modes"])
    if r == "const":
        return d["value"]
    raise KeyError(r)


def inputs(c):
    return {k: make_input(d) for k, d in c["inputs"].items()}


def expected(c, name, f64=False):
    return _file(c)[f"{c['id']}|{name}" + ("#f64" if f64 else "")]


def check(c, outs, f64=False):
    res = []
    for n, v in outs.items():
        o = c["outputs"][n]
        if f64 and "f64_key" in o:
            e, at, rt = _file(c)[o["f64_key"]], o["f64_atol"], o["f64_rtol"]
        else:
            e, at, rt = expected(c, n), o["atol"], o["rtol"]
        v = np.asarray(v)
        assert v.shape == e.shape, (c["id"], n, v.shape, e.shape)
        d = np.abs(v.astype(np.float64) - e.astype(np.float64))
        lim = at + rt * np.abs(e.astype(np.float64))
        res.append(
            (
                n,
                bool((d <= lim).all()),
                float(d.max()) if d.size else 0.0,
                float(lim.max()) if d.size else 0.0,
            )
        )
    return res


def summ(img, pool=32, crop=16):
    """the summary used for keys <name>.pool / .crop / .stats (numpy, NCHW, power-of-two ratio); maps no larger than pool are stored whole under <name>"""
    img = np.asarray(img)
    s = img.shape[-1]
    x = img.astype(np.float64)
    st = np.array([x.mean(), x.std(ddof=1), x.min(), x.max(), np.sqrt((x**2).sum())])
    if s <= pool:
        return {"": img, ".stats": st}
    f = s // pool
    a = s // 2 - crop // 2
    return {
        ".pool": x.reshape(*x.shape[:2], pool, f, pool, f).mean((3, 5)),
        ".crop": img[..., a : a + crop, a : a + crop],
        ".stats": st,
    }


def fstat(t):
    """the summary used for feature maps: per-channel mean and rms, first 4 channels pooled to 8x8 (power-of-two ratio; upsampled maps use nearest/adaptive bins), shape"""
    t = np.asarray(t)
    x = t.astype(np.float64)
    return {
        ".cmean": x.mean((2, 3)),
        ".crms": np.sqrt((x**2).mean((2, 3))),
        ".shape": np.array(t.shape),
    }
