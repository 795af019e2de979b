"""Every way of shortening that a report compares: ours, the papers', and the baselines that cost nothing."""
