-- Leases: for each node the end of it in milliseconds and the epoch in which it was renewed last.
local now = math.floor(now_us() / 1000)

-- A lease of another epoch still says that its node lives, but not that the log knows what the node has recorded.
local function lease_of(node)
  local ends, epoch = string.match(redis.call('HGET', LEASES, node) or '', '^(%d+) (%d+)$')
  local is_alive = ends ~= nil and tonumber(ends) > now
  return is_alive, is_alive and tonumber(epoch) == log.epoch
end
