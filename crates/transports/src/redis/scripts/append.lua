-- ARGV[7..]: for each entry "updates" or "events", id, record.
local function append_all()
  for at = 7, #ARGV, 3 do
    local failed = append(ARGV[at], ARGV[at + 1], ARGV[at + 2])
    if failed then
      return failed
    end
  end
end

local failed = append_all()
if failed and string.find(failed.err, 'equal or smaller', 1, true) then
  -- A stream goes on beyond the log's end: something else has written to it, or only a part of the log was restored.
  begin_epoch()
  failed = append_all()
end
if failed then
  return failed
end
trim()
return { head() }
