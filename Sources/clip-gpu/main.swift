print("clip-gpu")
