-- ARGV[4..5]: the place in the owners' order from which to go on, "-" for its beginning; how many at most. The place
-- after what was looked at, if there is more, and "node subscriber" and record by turns.
local from, left = ARGV[4], tonumber(ARGV[5])
local NODE_BYTES, NODES_MAX = 32, 256
local found, nodes = {}, 0
while from and left > 0 and nodes < NODES_MAX do
  local first = redis.call('ZRANGEBYLEX', OWNERS, from, '+', 'LIMIT', 0, 1)[1]
  if not first then
    from = false
    break
  end
  local node = string.match(first, '^[^ ]*')
  if lease_of(node) then
    -- "!" follows the space that parts a node from its subscriber: the next node.
    from = '[' .. node .. '!'
  else
    local owned = redis.call('ZRANGEBYLEX', OWNERS, '[' .. first, '(' .. node .. '!', 'LIMIT', 0, left)
    for _, each in ipairs(owned) do
      local known = redis.call('HGET', SUBSCRIBERS, string.sub(each, #node + 2)) or ''
      -- A record of another node's subscriber does not count: nobody could expire it for this node.
      local is_owned = string.sub(known, 1, NODE_BYTES) == node
      found[#found + 1] = each
      found[#found + 1] = is_owned and string.sub(known, NODE_BYTES + 1) or ''
    end
    left = left - #owned
    from = '(' .. owned[#owned]
  end
  nodes = nodes + 1
end
return { head(), from, found }
