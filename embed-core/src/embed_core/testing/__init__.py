"""The conformance kit: the contract as tests. The only room that knows pytest and hypothesis (extra `testing`)."""
