"""Deterministic, framework-free fill rule used by every golden vector (own code, numpy only).

    bits(seed_string, n)   n raw uint64 from Philox-4x64-10, key = crc32(utf8(seed_string)), counter 0
    u01(seed_string, n)    (bits >> 11) * 2**-53                      float64 in [0, 1)
    unit(seed_string, sh)  sqrt(3) * (2*u01 - 1), C order             zero mean, unit variance, uniform
    param(tag, key, sh, family)  value of one state-dict entry; seed_string = tag + ":" + key

Everything is computed in float64 and rounded ONCE to float32.  `param` returns None for entries that
keep their constructor value (FIR kernels, num_batches_tracked).
"""

import re
import zlib

import numpy as np

SQRT3 = float(np.sqrt(3.0))


def crc(s):
    return zlib.crc32(s.encode("utf-8")) & 0xFFFFFFFF


def bits(seed, n):
    return np.random.Philox(key=crc(seed)).random_raw(int(n)).astype(np.uint64)


def u01(seed, n):
    return (bits(seed, n) >> np.uint64(11)).astype(np.float64) * (2.0**-53)


def _unit64(seed, shape):
    n = int(np.prod(shape, dtype=np.int64)) if len(shape) else 1
    return (SQRT3 * (2.0 * u01(seed, n) - 1.0)).reshape(shape)


def unit(seed, shape, scale=1.0, offset=0.0):
    return (offset + scale * _unit64(seed, tuple(shape))).astype(np.float32)


def uniform(seed, shape, lo=0.0, hi=1.0):
    n = int(np.prod(shape, dtype=np.int64)) if len(shape) else 1
    return (lo + (hi - lo) * u01(seed, n)).reshape(tuple(shape)).astype(np.float32)


def ints(seed, n, high):
    """n integers in [0, high)"""
    return np.floor(u01(seed, n) * high).astype(np.int64)


# kinds: ("keep",) | ("aff", a, b): a + b*x | ("fan", b): b*x/sqrt(prod(shape[1:])) | ("pos", a, b): a + b*u
#        ("eye", b): sqrt(n)*I + b*x | ("half", b): first half 1 + b*x, second half b*x
RULES = {
    # rosinality Generator / Discriminator, DualStyleGAN, pSp decoder  (first match wins; re.search)
    "stylegan": [
        (r"(^|\.)kernel$", ("keep",)),
        (r"noises\.noise_\d+$", ("aff", 0.0, 1.0)),
        (r"(^|\.)style\.\d+\.weight$", ("aff", 0.0, 100.0)),  # lr_mul 0.01 layers
        (r"(^|\.)style\.\d+\.bias$", ("aff", 0.0, 10.0)),
        (r"(^|\.)res\.\d+\.conv2?\.0\.weight$", ("aff", 0.0, 0.3)),
        (r"(^|\.)res\.\d+\.norm2?\.style\.weight$", ("fan", 0.5)),
        (r"(^|\.)res\.\d+\.norm2?\.style\.bias$", ("half", 0.2)),
        (r"(^|\.)res\.\d+\.weight$", ("eye", 0.5)),
        (r"modulation\.bias$", ("aff", 1.0, 0.2)),
        (r"\.noise\.weight$", ("aff", 0.1, 0.05)),
        (r"bias$", ("aff", 0.0, 0.2)),
        (r".*", ("aff", 0.0, 1.0)),
    ],
    # as "stylegan" but every noise strength is exactly 0 (so random noise cannot matter)
    "stylegan_nonoise": [(r"\.noise\.weight$", ("aff", 0.0, 0.0)), "stylegan"],
    # IR-SE50 Backbone and pSp encoder
    "irse": [
        (r"num_batches_tracked$", ("keep",)),
        (r"running_mean$", ("aff", 0.0, 0.1)),
        (r"running_var$", ("pos", 0.75, 0.5)),
        (r"(input_layer|res_layer)\.2\.weight$", ("aff", 0.25, 0.05)),  # PReLU
        (r"res_layer\.4\.weight$", ("aff", 0.4, 0.05)),  # damped residual BN
        (
            r"(input_layer\.1|res_layer\.0|shortcut_layer\.1|output_layer\.0|output_layer\.4)\.weight$",
            ("aff", 1.0, 0.1),
        ),
        (r"styles\.\d+\.linear\.weight$|^linear\.weight$", ("aff", 0.0, 1.0)),  # equalised linear
        (r"styles\.\d+\.linear\.bias$|^linear\.bias$", ("aff", 0.0, 0.2)),
        (r"styles\.\d+\.convs\.\d+\.weight$", ("fan", 1.4)),
        (r"bias$", ("aff", 0.0, 0.1)),
        (r".*", ("fan", 1.0)),
    ],
    # VGG with torchvision keys features.N.weight / features.N.bias
    "vgg": [(r"weight$", ("fan", 1.4142135623730951)), (r"bias$", ("aff", 0.0, 0.05))],
    # LPIPS linear heads lin{k}.model.1.weight
    "lpips_lin": [(r".*", ("pos", 0.0, 0.5))],
    # sampling network
    "sampler": [
        (r"num_batches_tracked$", ("keep",)),
        (r"running_mean$", ("aff", 0.0, 0.1)),
        (r"running_var$", ("pos", 0.75, 0.5)),
        (r"bn\d\.weight$", ("aff", 1.0, 0.1)),
        (r"bn\d\.bias$", ("aff", 0.0, 0.1)),
        (r".*", ("fan", 1.4142135623730951)),
    ],
}


def _kind(family, key):
    for r in RULES[family]:
        if isinstance(r, str):
            return _kind(r, key)
        if re.search(r[0], key):
            return r[1]
    raise KeyError((family, key))


def param(tag, key, shape, family):
    k = _kind(family, key)
    shape = tuple(int(s) for s in shape)
    seed = tag + ":" + key
    if k[0] == "keep":
        return None
    if k[0] == "pos":
        n = int(np.prod(shape, dtype=np.int64))
        v = k[1] + k[2] * u01(seed, n).reshape(shape)
    else:
        x = _unit64(seed, shape)
        if k[0] == "aff":
            v = k[1] + k[2] * x
        elif k[0] == "fan":
            v = k[1] * x / np.sqrt(float(np.prod(shape[1:], dtype=np.int64)))
        elif k[0] == "eye":
            v = np.eye(shape[0]) * np.sqrt(float(shape[0])) + k[1] * x
        elif k[0] == "half":
            v = k[1] * x
            v[: shape[0] // 2] += 1.0
        else:
            raise ValueError(k)
    return v.astype(np.float32)


def fill_state(named, tag, family):
    """named: iterable of (key, array-like with .shape); returns {key: float32 array} for filled entries."""
    out = {}
    for key, t in named:
        v = param(tag, key, tuple(t.shape), family)
        if v is not None:
            out[key] = v
    return out


def image(seed, batch, size, channels=3, modes=6):
    """Smooth synthetic image batch in [-1, 1]: tanh of a sum of `modes` plane waves per channel."""
    p = u01(seed, batch * channels * modes * 4).reshape(batch, channels, modes, 4)
    g = (np.arange(size, dtype=np.float64) + 0.5) / size
    yy, xx = np.meshgrid(g, g, indexing="ij")
    out = np.zeros((batch, channels, size, size))
    for b in range(batch):
        for c in range(channels):
            for m in range(modes):
                fx, fy = 8.0 * (p[b, c, m, 0] - 0.5), 8.0 * (p[b, c, m, 1] - 0.5)
                ph, am = 2 * np.pi * p[b, c, m, 2], 0.2 + 0.8 * p[b, c, m, 3]
                out[b, c] += am * np.cos(2 * np.pi * (fx * xx + fy * yy) + ph)
    return np.tanh(out).astype(np.float32)


if __name__ == "__main__":
    # self test: these numbers must come out on any machine
    print(crc("a:b"), [int(v) for v in bits("a:b", 3)], unit("a:b", (3,)).tolist())
