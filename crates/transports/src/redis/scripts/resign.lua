-- ARGV[4]: the node.
redis.call('HDEL', LEASES, ARGV[4])
return { head() }
