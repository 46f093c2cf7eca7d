-- Whether there is more to let go of.
local more = trim()
return { head(), more and 1 or 0 }
