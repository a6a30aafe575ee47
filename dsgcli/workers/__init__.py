"""Work in pieces, for others to do: processes of this machine, or an existing cluster.

pieces       what a worker is, and how pieces are handed out     processes    joblib's loky
                                                                 cluster      joblib's Dask backend
"""
