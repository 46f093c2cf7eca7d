-- ARGV[7..8]: the node; "record", or "expire" if it has to be dead. ARGV[9..]: for each fact the subscriber, "1" if it came
-- or "0" if it went, its record, how many events there are, and for each event id and record.
local NODE_BYTES = 32
local node, is_expiry = ARGV[7], ARGV[8] == 'expire'
local is_alive, is_kept = lease_of(node)
if is_expiry and is_alive or not is_expiry and not is_kept then
  return { head(), 0 }
end

local function add(subscriber, record)
  log.counter = log.counter + 1
  log.subscribers = log.subscribers + 1
  redis.call('HSET', SUBSCRIBERS, subscriber, node .. record)
  redis.call('ZADD', ORDER, text(log.counter), subscriber)
  redis.call('ZADD', OWNERS, 0, node .. ' ' .. subscriber)
end

local function remove(subscriber)
  log.subscribers = log.subscribers - 1
  redis.call('HDEL', SUBSCRIBERS, subscriber)
  redis.call('ZREM', ORDER, subscriber)
  redis.call('ZREM', OWNERS, node .. ' ' .. subscriber)
end

local function move(subscriber, owner, record)
  redis.call('HSET', SUBSCRIBERS, subscriber, node .. record)
  redis.call('ZREM', OWNERS, owner .. ' ' .. subscriber)
  redis.call('ZADD', OWNERS, 0, node .. ' ' .. subscriber)
end

local at = 9
while at <= #ARGV do
  local subscriber, is_there, record, events = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2], tonumber(ARGV[at + 3])
  local known = redis.call('HGET', SUBSCRIBERS, subscriber)
  local owner = known and string.sub(known, 1, NODE_BYTES)
  local is_new = false
  if is_there and not known then
    add(subscriber, record)
    is_new = true
  elseif is_there and owner ~= node then
    move(subscriber, owner, record)
  elseif not is_there and owner == node then
    remove(subscriber)
    is_new = true
  end
  at = at + 4
  for _ = 1, events do
    local failed = is_new and append('events', ARGV[at], ARGV[at + 1])
    if failed then
      -- The records have changed already and the log has not: neither is of use.
      begin_epoch()
      return failed
    end
    at = at + 2
  end
end
trim()
return { head(), 1 }
