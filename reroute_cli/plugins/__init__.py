"""The arguments and the words of lmms-eval's model `reroute`, see integrations/lmms_eval."""
