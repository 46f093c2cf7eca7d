-- How many updates the log keeps.
return { head(), log.updates }
