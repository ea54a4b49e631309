"""Work on several processes and machines, scheduled by Ray (extra `kerasfer[ray]`).

`cluster` starts or joins Ray, `scoring` classifies pictures into Parquet files with Ray Data, and
`answers` defines those files. Ray is imported inside of the functions that need it.
"""
