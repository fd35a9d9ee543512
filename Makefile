# Thin aliases; dev.py has the one list of what can be done.
.PHONY: demo test bench check format lock setup

demo test bench check format lock setup:
	python3 dev.py $@
