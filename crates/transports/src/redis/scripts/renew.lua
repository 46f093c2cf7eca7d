-- ARGV[4..5]: the node, milliseconds.
local _, is_kept = lease_of(ARGV[4])
local leases = redis.call('HGETALL', LEASES)
for at = 1, #leases, 2 do
  if not lease_of(leases[at]) then
    redis.call('HDEL', LEASES, leases[at])
  end
end
redis.call('HSET', LEASES, ARGV[4], text(now + tonumber(ARGV[5])) .. ' ' .. text(log.epoch))
return { head(), is_kept and 1 or 0 }
