# gunicorn reads this file in its working directory. systemd passes the socket. Without systemd, bind counts.
bind = "unix:/run/app.socket"
# A stream leaves its worker, so four workers are for the other requests, however many streams there are.
workers = 4
worker_class = "sync"
# A worker is replaced after some requests. Its browsers come back to another one with their cursors.
max_requests = 10_000
max_requests_jitter = 1_000
