"""Work on several processes and machines, scheduled by Ray (extra `kerasfer[ray]`).

`cluster` starts or joins Ray, `scoring` classifies pictures into Parquet files with Ray Data,
`answers` defines those files, `studies` trains the runs of tables at the same time, and `training`
trains one run with several processes. Ray is imported inside of the functions that need it.
"""
